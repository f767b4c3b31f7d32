"""The page of the replay: its words never contradict its tables, whatever the figures are."""

import html
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.blending import SOURCES, Blending
from jobs.contract.results import BlendingChoice, Gain, JudgedBlend, Replay
from jobs.replay import measure
from jobs.reporting import replay_text
from jobs.reporting.replay_page import curve, judged_table, page, spread, table_of
from jobs.selection.blending_choice import ALTERNATE, WEIGHTED, Judged, decide
from jobs.selection.hit_rates import gain_of, mean_hit_rate


@st.composite
def replays(draw):
    """Made-up hits of plays, and the content of replay.json that they give."""
    users = draw(st.integers(1, 80))
    longest = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    lengths = rng.integers(1, longest + 1, users)
    session = np.arange(users).repeat(lengths)
    at = np.concatenate([np.arange(length) for length in lengths])
    luck = rng.random(len(at))
    share = lambda: draw(st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]))  # noqa: E731
    hits = {"offline": luck < share(), "online": (rng.random(len(at)) < share()) & (at > 0)}
    rule = draw(st.sampled_from(["weighted", "alternate", "offline"]))
    hits["blend"] = np.where(at > 0, luck < share(), hits["offline"])
    if rule == "offline":
        hits["blend"] = hits["offline"]
    if users > 1:
        hits["exchanged"] = np.where(at > 0, luck < share(), hits["offline"])
    content = Replay(Blending(rule=rule), users, None, **measure(hits, at, session)._asdict())
    return content, hits, at


@settings(max_examples=60, deadline=None)
@given(replays())
def test_what_is_said_of_the_blend_is_what_the_table_shows(made):
    content, hits, at = made
    words = " ".join(replay_text.outcome(content))
    rows = {row["events seen"]: row for row in table_of(content).to_dict("records")}
    if set(rows) == {"0"}:
        assert (
            words
            == "No play follows an event of its user, so nothing can be said about live events."
        )
        return
    assert ("the figures prove nothing" in words) == (content.users < 50)
    seen = [name for name in rows if name != "0"]
    means = [f"{mean_hit_rate(hits[name], at):.4f}" for name in ("blend", "offline")]
    assert f"hit@10 is {means[0]} for the blend and {means[1]} for the offline list" in words
    if content.blending.rule == "offline":
        assert "so the two lists are the same" in words
        assert not re.search("better|worse|chance", words)
        assert all(row["blend"] == row["offline"] for row in rows.values())
        return
    gain = content.gains["blend"]
    [words] = [text for text in replay_text.outcome(content) if text.startswith("After at least")]
    first = words.partition("events seen):")[2]
    assert ("the blend is better" in first) == (gain.low > 0)
    assert ("the blend is worse" in first) == (gain.high < 0)
    found = "(It is better|It is worse|difference may be chance|two lists do not differ)"
    said = re.findall(rf"{found} after ([^.]*)\.", words)
    kinds = {
        name: kind for kind, names in said for name in re.split(", | and ", names)
    }  # fmt: skip
    expected = {}
    for name in seen:
        low, high = (
            float(bound.replace("−", "-")) for bound in rows[name]["95 % interval"].split(" to ")
        )
        expected[replay_text.EVENTS[name]] = (
            "It is better" if low > 0
            else "It is worse" if high < 0
            else "difference may be chance" if low or high
            else "two lists do not differ"
        )  # fmt: skip
    alike = {*expected.values()} == {"two lists do not differ"}
    assert kinds == ({} if len(seen) == 1 or alike else expected)


@settings(max_examples=60, deadline=None)
@given(replays())
def test_what_is_said_of_the_control_is_what_its_interval_says(made):
    content, hits, at = made
    words = " ".join(replay_text.control(content))
    if "exchanged" not in hits or content.blending.rule == "offline" or not (at > 0).any():
        assert words == ""
        return
    gain = content.over_control
    assert ("so it makes use of" in words) == (gain.low > 0)
    assert ("is worse" in words) == (gain.high < 0)


draws = st.lists(st.floats(-0.1, 0.1), min_size=20, max_size=20)


@given(gains=st.lists(draws, min_size=3, max_size=3), missing=st.sets(st.sampled_from(SOURCES)))
def test_why_a_blend_is_served_agrees_with_the_table_of_those_judged(gains, missing):
    names = (*WEIGHTED, ALTERNATE)
    judged = {
        name: Judged(float(np.mean(each)), np.array(each))
        for name, each in zip(names, gains, strict=True)
    }
    served, reason = decide(judged)
    choice = BlendingChoice(
        reason,
        500,
        0.2,
        [
            JudgedBlend(*name, 0.2 + each.gain, gain_of(*each), name == served)
            for name, each in judged.items()
        ],
        [*missing],
    )
    table = judged_table(choice).set_index("rule")
    words = " ".join(replay_text.reasons(choice))
    [name] = table.index[table[""] == "served"]
    weighted = [each for each in choice.judged if each.rule == "weighted"]
    if reason == "worse":
        assert name == "offline list alone" and "The offline list alone is served" in words
        assert all(each.gain.high < 0 for each in choice.judged)
    else:
        assert f"“{name}” is served" in words
        gain = next(each.gain for each in choice.judged if each.served)
        assert ("It was better than the offline list" in words) == (gain.low > 0)
        assert ("may be chance" in words) == (gain.low <= 0 and gain != Gain(0, 0, 0))
        assert gain.high >= 0 and "It was worse" not in words
    if "was the best weighted rule" in words:
        assert gain.gain == max(each.gain.gain for each in weighted)
    if "only weighted rule that was not surely worse" in words:
        assert [each.served for each in weighted if each.gain.high >= 0] == [True]
    if "alone was not surely worse" in words:
        assert [each.rule for each in choice.judged if each.gain.high >= 0] == ["alternate"]
    if reason == "cautious":
        best = re.search("best weighted rule, “([^”]*)”", words).group(1)
        gains = {replay_text.blend_name(each): each.gain.gain for each in weighted}
        assert best != name and gains[best] == max(gains.values())
    assert ("no track" in words) == bool(missing)
    assert all(f"“{source}”" in words for source in missing)


@pytest.mark.parametrize("users", [0, 1, 49])
def test_too_few_users_to_choose_by_are_named_and_no_rule_is_said_to_be_best(users):
    [words] = replay_text.reasons(BlendingChoice("few users", users))
    assert words.startswith(f"Only {users} user{'s' * (users != 1)} ha")
    assert "the default rule is served" in words and "best" not in words


@settings(max_examples=20, deadline=None)
@given(replays())
def test_every_page_can_be_written_and_has_the_rule(tmp_path_factory, made):
    content, hits, at = made
    content.choice = BlendingChoice("few users", 3)
    path = tmp_path_factory.mktemp("page") / "page.html"
    page(content, hits, at).write(path)
    text = html.unescape(path.read_text())
    assert '<td dir="auto">rule</td>' in text and f">{content.blending.rule}<" in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    for words in (*replay_text.outcome(content), *replay_text.reasons(content.choice)):
        assert words in text


def test_lists_with_the_same_hits_are_told_apart_in_the_plot():
    at = np.tile(np.arange(5), 10)
    hit = at % 2 == 0
    figure = curve(dict.fromkeys(("offline", "online", "blend", "exchanged"), hit), at)
    [axes] = figure.axes
    lines = [line for line in axes.lines if line.get_label()[0] != "_"]
    assert len(lines) == 4
    for look in ("get_color", "get_marker"):
        assert len({getattr(line, look)() for line in lines}) == 4
    assert len({(line.get_linestyle(), line.get_linewidth()) for line in lines}) == 4
    starts = sorted(line.get_xdata()[0] for line in lines)
    assert min(np.diff(starts)) > 0.05  # no marker hides another
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 4 and min(np.diff(heights)) > 0


@given(heights=st.lists(st.floats(0, 1), max_size=6), gap=st.floats(0.01, 0.5))
def test_labels_are_apart_and_keep_their_order(heights, gap):
    found = spread(heights, gap)
    assert all(new >= old for new, old in zip(found, heights, strict=True))
    assert all(step >= gap * 0.999 for step in np.diff(sorted(found)))
    order = np.argsort(heights, kind="stable")
    assert [found[i] for i in order] == sorted(found)
