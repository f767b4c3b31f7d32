#!/usr/bin/env bash
# From three parquet files to a release that the service can serve.
#
#   bash run_all.sh                          the embedded sample, into data/
#   bash run_all.sh --data IN --work WORK    your own tracks, catalog_names and interactions
#   bash run_all.sh COMMAND ...              any command in the same environment, without the jobs:
#                                            pytest, litestar run, locust -f loadtest/locustfile.py
#
# Options:
#   --data DIR          the three input files (default: a synthetic sample, made here)
#   --work DIR          where everything is written (default: data)
#   --heard RULE        exclude | include: may a track already heard be recommended
#   --tune EFFORT       off | quick | full: how long to look for the best settings
#   --split KIND        auto | time | user: how the past is cut for evaluation
#   --share NUMBER      share of the listens that each of the three windows holds out
#   --gap DAYS          days between a window's past and what it foresees (time split)
#   --peers             compare with other models too: implicit's ALS, item kNN, EASE
#   --ablation          learn again without each generator, and follow ALS through its epochs
#   --events FILE       more interactions: what the service saw, by jobs.export_events
#   --forgotten FILE    whom to forget: the service's forgotten.db (default: WORK/state/forgotten.db)
#   --memory-limit SIZE most memory that a job may take, as 8G (default: what is available)
#   --force             activate the release even if it is much worse than the current one
#   --max-bad-share X   stop if more than this share of the interactions is bad
set -euo pipefail

data="" work=data
prepare=() windows=() tune=() evaluate=() publish=() every=()

help() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
fail() { echo "run_all.sh: $1" >&2; exit 2; }
one_of() { [[ $2 != *" "* && " ${*:3} " == *" $2 "* ]] || fail "$1 is $2: expected one of ${*:3}"; }

# A first word that is no option is a command; it runs beside this script.
command=()
if [[ $# -gt 0 && $1 != -* ]]; then command=("$@"); set --; fi
while [[ $# -gt 0 ]]; do
  [[ $1 == --*=* ]] && set -- "${1%%=*}" "${1#*=}" "${@:2}"
  case $1 in
    -h | --help) help; exit ;;
    --peers | --ablation) evaluate+=("$1"); shift; continue ;;
    --force) publish+=("$1"); shift; continue ;;
    --data | --work | --heard | --tune | --split | --share | --gap | --events | --forgotten | --memory-limit | \
    --max-bad-share)
      [[ -n ${2-} ]] || fail "$1 needs a value; see bash run_all.sh --help" ;;
    *) help >&2; fail "unknown option $1; the known ones are listed above" ;;
  esac
  case $1 in
    --data) data=$2 ;;
    --work) work=$2 ;;
    --heard) one_of "$1" "$2" exclude include; tune+=("$1" "$2") ;;
    --tune) one_of "$1" "$2" off quick full; tune+=("$1" "$2") ;;
    --split) one_of "$1" "$2" auto time user; windows+=("$1" "$2") ;;
    --share | --gap) windows+=("$1" "$2") ;;
    --events | --forgotten) prepare+=("$1" "$(realpath -m "$2")") ;;
    --max-bad-share) prepare+=("$1" "$2") ;;
    --memory-limit) every+=("$1" "$2") ;;
  esac
  shift 2
done

# Paths are the caller's; the code and its environment stand beside this script.
[[ -z $data ]] || data=$(realpath -m "$data")
work=$(realpath -m "$work")
cd "$(dirname "${BASH_SOURCE[0]}")"

# The environment: made once, and again when the requirements change, this folder was moved, or a
# set-up was killed before it had a working python.
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null ||
  fail "$python is not Python 3.11 or later: install it, or name one: PYTHON=python3.12 bash run_all.sh"
if [[ -d .venv && ! -L .venv ]] &&
  ! { grep -qsF "$PWD/.venv" .venv/bin/activate && [[ -x .venv/bin/python ]]; }; then rm -rf .venv; fi
# uv installs it where it is on the PATH, and pip otherwise. A file that was installed whole leaves a
# copy in .venv, so a set-up that was interrupted is done again.
install() {
  ! cmp -s "$1" ".venv/$1" || return 0
  echo "Setting up .venv from $1 (once) ..."
  rm -f ".venv/$1"
  if command -v uv > /dev/null; then
    [[ -x .venv/bin/python ]] || uv venv --quiet --python "$python" .venv
    uv pip install --quiet --python .venv/bin/python -r "$1"
  else
    "$python" -m venv .venv
    # Every package is pinned, so there is nothing to resolve; Python compiles what it imports.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r "$1"
  fi
  cp "$1" ".venv/$1"
}
install requirements.txt
[[ ! " ${command[*]-} " =~ \ (pytest|ruff|mypy|loadtest\.schema)\  ]] || install requirements-dev.txt
source .venv/bin/activate
if [[ ${#command[@]} -gt 0 ]]; then exec "${command[@]}"; fi

# One run at a time in a folder: the lock goes with its processes, however they end.
mkdir -p "$work" && exec 9< "$work" || fail "--work $work can't be a folder: name another"
if command -v flock > /dev/null && ! flock -n 9; then
  fail "another run is writing into $work: wait for it, or name another --work"
fi
# What a killed run was writing:
rm -rf "$work"/{,sample/,report/,releases/,windows/*/}.*.tmp "$work"/{,windows/*/}.done/*.tmp
# The windows "validation" and "test" had other names in earlier versions:
rm -rf "$work"/windows/{choose,report}

# Every job is a script of its own. One that has run on the same input, with the same options and
# code, is not run again: a run that was stopped goes on where it was. Below is the line of jobs in
# their order; jobs.run starts each as soon as those before it have made what it reads.
mkdir -p "$work/.done" || fail "$work can't be written: check its permissions"
job() { printf '%s\0' "$@" "${every[@]}" ''; }

line() {
  # Without input of your own, the synthetic sample:
  [[ -n $data ]] || job sample_data --out "$work/sample"

  # The data: checked and encoded, described, and cut into windows, whose models know no future.
  job prepare --data "${data:-$work/sample}" --work "$work" "${prepare[@]}"
  job explore --work "$work"
  job windows --work "$work" "${windows[@]}"
  job tune --work "$work" "${tune[@]}"

  # The lists of every kind: in each window on its own past, then on all the data for tomorrow.
  for folder in "$work"/windows/{train,validation,test} "$work"; do
    for name in top_popular train_als personal_als similar next_played; do
      job "$name" --work "$folder"
    done
  done

  # The final list, how good it is, how live events are best blended in, and the release.
  job rank --work "$work"
  job evaluate --work "$work" "${evaluate[@]}"
  job replay --work "$work"
  job publish --work "$work" "${publish[@]}"
}

line | python -m jobs.run --line
python -m jobs.summary --work "$work"
