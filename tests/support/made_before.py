"""What earlier versions wrote: their names of windows, generators and sources in JSON files."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobs.contract.names import MANIFEST, METRICS, RANKING, REPLAY
from jobs.contract.results import Replay

FORMER_NAMES = {
    "next_played": "next",
    "after_last": "last",
    "replayed": "own",
    "validation": "choose",
    "test": "report",
    "ndcg@10_on_validation": "ndcg@10_on_choose",
}


LATER_KEYS = {"tracks"}  # of metrics.json's window, which it did not have


def former_blending(blending: dict[str, Any]) -> dict[str, Any]:
    """A blending whose sources are one text."""
    sources = blending["sources"]
    several = {2: "+".join(sources), 3: "all"}.get(len(sources), sources[0])
    return {key: value for key, value in blending.items() if key != "sources"} | {
        "source": "both" if sources == ["similar", "next_played"] else several
    }


def renamed(content: Any) -> Any:
    """The content of a JSON file with the names of before."""
    if isinstance(content, dict):
        if "sources" in content:
            return former_blending(content)
        return {FORMER_NAMES.get(key, key): renamed(value) for key, value in content.items()}
    if isinstance(content, list):
        return [renamed(value) for value in content]
    return FORMER_NAMES.get(content, content) if isinstance(content, str) else content


def former_results(folder: Path) -> None:
    """Give metrics.json, ranking.json and replay.json in a folder the form of before."""
    for name in (METRICS, RANKING, REPLAY):
        path = folder / name
        content = renamed(json.loads(path.read_text()))
        for key in LATER_KEYS & set(content.get("window", ())):
            del content["window"][key]
        path.unlink()  # a release has a link to it
        path.write_text(json.dumps(content, indent=2))
    assert set(json.loads((folder / REPLAY).read_text())) - {"report", "choose"} <= set(
        Replay.__struct_fields__
    )


def former_release(folder: Path) -> None:
    """Give a release the form of before, by contract version 2; its arrays are the same."""
    former_results(folder)
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["metrics"] = json.loads((folder / METRICS).read_text())
    manifest["settings"]["blending"] = former_blending(manifest["settings"]["blending"])
    manifest["created_at"] = "2022-12-31T23:59:59+00:00"
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest, indent=2))
