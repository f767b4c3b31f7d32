#!/usr/bin/env bash
# From files of tracks, names and listens to a release that the service can serve.
#
#   bash run_all.sh                          a synthetic sample, into data/
#   bash run_all.sh --data IN --work WORK    your own tracks, catalog_names and interactions
#   bash run_all.sh COMMAND ...              any command in the same environment, without the jobs:
#                                            pytest, litestar run, locust -f loadtest/locustfile.py
#
# Options:
#   --data DIR          the folder of your inputs (default: a synthetic sample, made in WORK/sample)
#   --columns LIST      what columns are called in your files: interactions.user_id=uid,...
#   --time-unit UNIT    s | ms | us: what a started_at that is a number counts in
#   --origin MOMENT     the moment that it counts from (default: 1970-01-01)
#   --delimiter CHAR    what stands between the values of CSV (default: found out)
#   --no-header         the first row of CSV has values, not names (default: found out)
#   --check             only say how the files are understood, and what would be quarantined
#   --work DIR          where everything is written (default: data)
#   --heard RULE        exclude | include: whether heard tracks may be recommended
#   --tune EFFORT       off | quick | full: how long to search for the best settings
#   --split KIND        auto | time | user: cut the past at moments, or in each user's history
#   --share NUMBER      share of the listens that each window holds out
#   --gap DAYS          days between a window's past and its holdout (time split only)
#   --new-share X       share of the places in final lists for tracks without a listen (default: 0)
#   --peers             compare with other models too: implicit's ALS, item kNN, EASE
#   --ablation          train again without each generator, and score ALS after each epoch
#   --events FILE       more interactions: the service's events, from jobs.export_events
#   --forgotten FILE    users to forget, from the service (default: WORK/state/forgotten.db)
#   --memory-limit SIZE the most memory that a job may use, as in 8G (default: what is available)
#   --engine ENGINE     local | local-cluster[WORKERS,CORES,MB] | spark://HOST:PORT: where jobs compute
#   --mixed-processors  take hosts with other processors, though the bytes may differ then
#   --force             activate the release even if it is much worse than the current one
#   --max-bad-share X   stop if more than this share of the interactions is bad (default: 0.1)
#   --artist-limit N    auto | off | 1 to 9: how many of a list's first 10 may be by one artist
#   --now MOMENT        what counts as now; listens that are later are left out (default: the clock)
#   --skip-under X      a listen of which less than this share was played is a skip (default: 0.5)
#   --equal-rows RULE   auto | plays | copies: what equal interactions are
#   --user-ids KIND     auto | integer | text: of which kind ids of users are
#   --track-ids KIND    auto | integer | text: of which kind ids of tracks are
#   --same-song RULE    on | off: whether tracks with the same artists and title are one song
#   --suspicious RULE   leave-out | keep: whether accounts that play unlike a listener count for others
#   --far FACTOR        how far from all others the time of a listen is wrong (default: 5)
set -euo pipefail

# The braces make bash read the whole script before it starts: a newer version of this file, as from
# a git pull, does not disturb a run.
{

data="" work=data check="" engine=local session=()
prepare=() windows=() tune=() rank=() evaluate=() publish=() every=()

help() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
fail() { echo "run_all.sh: $1" >&2; exit 2; }
one_of() { [[ $2 != *" "* && " ${*:3} " == *" $2 "* ]] || fail "$1 is $2: expected one of ${*:3}"; }

# If the first word is not an option, all words are a command, which runs in this script's folder.
command=()
if [[ $# -gt 0 && $1 != -* ]]; then command=("$@"); set --; fi
while [[ $# -gt 0 ]]; do
  [[ $1 == --*=* ]] && set -- "${1%%=*}" "${1#*=}" "${@:2}"
  case $1 in
    -h | --help) help; exit ;;
    --peers | --ablation) evaluate+=("$1"); shift; continue ;;
    --force) publish+=("$1"); shift; continue ;;
    --no-header) prepare+=("$1"); shift; continue ;;
    --check) check=yes; shift; continue ;;
    --mixed-processors) session+=("$1"); shift; continue ;;
    --data | --work | --heard | --tune | --split | --share | --gap | --events | --forgotten | --memory-limit | \
    --max-bad-share | --now | --far | --equal-rows | --same-song | --suspicious | --artist-limit | --new-share | \
    --columns | --time-unit | --origin | --delimiter | --user-ids | --track-ids | --skip-under | --engine)
      [[ -n ${2-} ]] || fail "$1 needs a value; see bash run_all.sh --help" ;;
    *) help >&2; fail "unknown option $1; the known ones are listed above" ;;
  esac
  case $1 in
    --data | --work)
      [[ ! $2 =~ ^[A-Za-z][A-Za-z0-9+.-]*:/ ]] ||
        fail "$1 is $2: expected a folder of a file system; mount the store, and pass the folder"
      printf -v "${1#--}" %s "$2" ;;
    --engine) engine=$2 ;;
    --heard) one_of "$1" "$2" exclude include; tune+=("$1" "$2") ;;
    --tune) one_of "$1" "$2" off quick full; tune+=("$1" "$2") ;;
    --equal-rows) one_of "$1" "$2" auto plays copies; prepare+=("$1" "$2") ;;
    --user-ids | --track-ids) one_of "$1" "$2" auto integer text; prepare+=("$1" "$2") ;;
    --same-song) one_of "$1" "$2" on off; prepare+=("$1" "$2") ;;
    --suspicious) one_of "$1" "$2" leave-out keep; prepare+=("$1" "$2"); windows+=("$1" "$2") ;;
    --artist-limit) one_of "$1" "$2" auto off 1 2 3 4 5 6 7 8 9; rank+=("$1" "$2") ;;
    --split) one_of "$1" "$2" auto time user; windows+=("$1" "$2") ;;
    --share | --gap) windows+=("$1" "$2") ;;
    --events | --forgotten) prepare+=("$1" "$(realpath -m "$2")") ;;
    --time-unit) one_of "$1" "$2" s ms us; prepare+=("$1" "$2") ;;
    --max-bad-share | --now | --far | --columns | --origin | --delimiter | --skip-under) prepare+=("$1" "$2") ;;
    --new-share) rank+=("$1" "$2") ;;
    --memory-limit) every+=("$1" "$2") ;;
  esac
  shift 2
done

# Paths are relative to the caller's folder; the code and its environment are beside this script.
[[ -z $data ]] || data=$(realpath -m "$data")
work=$(realpath -m "$work")
cd "$(dirname "${BASH_SOURCE[0]}")"

# The environment is made once. It is made again if the requirements change, if this folder was
# moved, or if a set-up was killed before python worked in it.
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null ||
  fail "$python is not Python 3.11 or later: install it, or set PYTHON, as in PYTHON=python3.12 bash run_all.sh"
if [[ -d .venv && ! -L .venv ]] &&
  ! { grep -qsF "$PWD/.venv" .venv/bin/activate && [[ -x .venv/bin/python ]]; }; then rm -rf .venv; fi
# Without compiled modules every start of Python takes a second longer, so they are always written.
export PYTHONDONTWRITEBYTECODE=""
# uv installs the packages if it is on the PATH, and pip otherwise. Once all packages of a file are
# installed, the file is copied into .venv; so a set-up that was interrupted is done again.
install() {
  ! cmp -s "$1" ".venv/$1" || return 0
  echo "Setting up .venv from $1 (once) ..."
  rm -f ".venv/$1"
  if command -v uv > /dev/null; then
    [[ -x .venv/bin/python ]] || uv venv --quiet --python "$python" .venv
    uv pip install --quiet --python .venv/bin/python -r "$1"
  else
    # Another Python may be on the PATH than the one that made .venv: it must not be made half anew.
    .venv/bin/python -m pip --version &> /dev/null || "$python" -m venv --clear .venv
    # Every package is pinned, so pip need not resolve anything. Python compiles what it imports.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r "$1"
  fi
  cp "$1" ".venv/$1"
}
install requirements.txt
[[ ! " ${command[*]-} " =~ \ (pytest|ruff|mypy|loadtest\.schema|tests\.console\.pictures)\  ]] || install requirements-dev.txt
# events in Valkey, for the service and for jobs that read or move them
[[ -z ${RECO_EVENTS-} && " ${command[*]-} " != *" --store "* ]] || install requirements-valkey.txt
# jobs on a cluster, and their tests
[[ $engine == local && ! " ${command[*]-} " =~ \ (spark|--engine)\  ]] || install requirements-spark.txt
source .venv/bin/activate
if [[ ${#command[@]} -gt 0 ]]; then exec "${command[@]}"; fi

if [[ -n $check ]]; then
  [[ -n $data ]] || fail "--check needs --data, the folder of your files"
  exec python -m jobs.prepare --data "$data" --work "$work" "${prepare[@]}" --check
fi

# Only one run at a time may work in a folder. The lock is gone when the processes of a run end.
mkdir -p "$work" && exec 9< "$work" || fail "--work $work can't be used as a folder: pass another --work"
if command -v flock > /dev/null && ! flock -n 9; then
  fail "another run is writing into $work: wait for it, or pass another --work"
fi
# Remove the temporary files of a run that was killed:
rm -rf "$work"/{,sample/,report/,releases/,windows/*/}.*.tmp "$work"/{,windows/*/}.done/*.tmp
# Remove the windows of earlier versions, which had other names for "validation" and "test":
rm -rf "$work"/windows/{choose,report}

# Every job is a script of its own. A job that has run on the same input, with the same options and
# code, is skipped; so a run that was stopped goes on where it was. `line` prints the jobs in their
# order; jobs.run starts each one as soon as the jobs before it have made the files that it reads.
mkdir -p "$work/.done" || fail "$work can't be written: check its permissions"
job() { printf '%s\0' "$@" "${every[@]}" ''; }

line() {
  # Without input of your own, the synthetic sample:
  [[ -n $data ]] || job sample_data --out "$work/sample"

  # The data: check and encode it, describe it, cut it into windows, search for settings.
  job prepare --data "${data:-$work/sample}" --work "$work" "${prepare[@]}"
  job explore --work "$work"
  job windows --work "$work" "${windows[@]}"
  job tune --work "$work" "${tune[@]}"

  # The lists of every kind: in each window from its past, then from all the data for the release.
  for folder in "$work"/windows/{train3,train2,train,validation,test} "$work"; do
    for name in top_popular train_als personal_als similar next_played item_weights; do
      job "$name" --work "$folder"
    done
  done

  # The final lists, how good they are, how live events are best blended in, and the release.
  job rank --work "$work" "${rank[@]}"
  job evaluate --work "$work" "${evaluate[@]}"
  job replay --work "$work"
  job publish --work "$work" "${publish[@]}"
}

line | python -m jobs.run --line "$engine" "$work" "${session[@]}"
python -m jobs.summary --work "$work"
exit
}
