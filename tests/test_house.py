"""The house rules that a machine can check: which way imports run, where effects live, what a room looks like.

Rules that need judgement stand in the contract. What is checked here is read from the source, not from what happens to be
loaded, except the last: what a read path really loads, in a fresh process.
"""

import ast
import graphlib
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ledger", "projections", "replay")
TOP = {"pyproject.toml", "README.md", *PACKAGES, "tests"}
LINES_MAX = 400
EFFECTS = {
    "asyncio", "asyncssh", "dns", "fcntl", "logging", "os", "random", "secrets", "shutil", "signal", "socket", "sqlite3",
    "sqlite_utils", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
EFFECTFUL = {
    "ledger.store": "ties file and feeds together",
    "ledger.opening": "opens files",
    "ledger.locking": "locks files",
    "ledger.schema": "makes tables",
    "ledger.row_reader": "reads rows",
    "ledger.watching": "asks a file whether anybody wrote",
    "ledger.writer": "writes rows",
    "ledger.scan": "reads a whole file",
    "ledger.keys": "makes and keeps keys",
    "ledger.keeping": "keeps what a test failed on",
    "ledger.node.bridge": "runs for sshd",
    "ledger.node.ccs": "listens for SSH",
    "ledger.node.config": "keeps a node's directory",
    "ledger.node.control": "speaks with operators",
    "ledger.node.daemon": "runs",
    "ledger.node.desk": "answers operators",
    "ledger.node.doctor": "looks at this machine",
    "ledger.node.doctor_sshd": "looks at its sshd",
    "ledger.node.doors": "accepts connections",
    "ledger.node.failures": "knows the exceptions of SSH",
    "ledger.node.gate": "knows when codes expire",
    "ledger.node.invites": "throws dice for secrets, and keeps what was used",
    "ledger.node.joining": "asks to be let in",
    "ledger.node.links": "speaks SSH",
    "ledger.node.notify": "tells systemd",
    "ledger.node.openssh": "speaks through sshd",
    "ledger.node.resolver": "asks DNS",
    "ledger.node.responder": "answers DNS on loopback",
    "ledger.node.sshclient": "dials by SSH",
    "ledger.node.virtual_breaks": "breaks what real nodes run in",
    "ledger.node.virtual_daemons": "runs real nodes in one process",
    "ledger.node.virtual_loop": "is an event loop",
    "ledger.node.virtual_net": "is a network for one",
    "ledger.node.virtual_streams": "has its connections",
    "ledger.node.wires": "has the links and tasks of a node",
    "replay.snapshots": "keeps folds beside a ledger",
    "replay.cli": "the command line",
    "replay.commands_*": "the command line",
    "replay.asked": "the command line's clock and environment",
    "replay.exits": "the command line's end",
    "replay.tailing": "waits for what comes",
    "replay.demo": "shows a mesh in folders of its own",
    "replay.demo_mesh": "raises its nodes",
    "replay.demo_story": "throws the dice of a seed, and waits",
    "replay.demo_wires": "lies between them",
    "replay.export": "writes files",
    "replay.merge": "writes files",
    "replay.report": "writes files",
    "replay.intake": "reads files of any kind",
}
"""The named rooms that may have effects, each with its reason. All others are pure: bytes and values in and out."""


def _rooms():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


ROOMS = _rooms()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in ROOMS.items()}


def imported(name, *, lazy=True):
    """The modules that a room imports: ours by the room that is meant, others by their first name."""
    found = set()
    for node in ast.walk(TREES[name]) if lazy else TREES[name].body:
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            inner = {f"{node.module}.{each.name}" for each in node.names}
            found |= {each if each in ROOMS else node.module for each in inner}
    return {each if each.split(".")[0] in PACKAGES else each.split(".")[0] for each in found}


def is_face(name):
    return name.endswith("__init__") or name in PACKAGES


def test_imports_run_one_way():
    """Replay may import projections and ledger, projections may import ledger; node and projections never meet."""
    wrong = []
    for name in ROOMS:
        for other in imported(name):
            pair = name.split(".")[0], other.split(".")[0]
            if pair in {("ledger", "projections"), ("ledger", "replay"), ("projections", "replay")}:
                wrong.append(f"{name} imports {other}")
            if (
                other.startswith("ledger.node")
                and name.split(".")[0] != "replay"
                and not name.startswith(("ledger.node", "ledger.testing"))
            ):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_rooms_do_not_go_round_in_circles():
    """No room needs, by way of others, itself."""
    graph = {name: {other for other in imported(name) if other in ROOMS} for name in ROOMS if not is_face(name)}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_our_code_imports_rooms_not_faces():
    """Faces are for guests: our code imports the room that defines a name."""
    wrong = [f"{name} imports {other}" for name in ROOMS if not is_face(name) for other in imported(name) if is_face(other)]
    assert wrong == []


def test_a_name_is_imported_from_the_room_that_defines_it():
    """No room passes on what another one made."""
    wrong = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in ROOMS and not is_face(node.module):
                given = {
                    each.asname or each.name
                    for other in TREES[node.module].body
                    if isinstance(other, ast.ImportFrom)
                    for each in other.names
                }
                own = {each.name for each in TREES[node.module].body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
                wrong += [
                    f"{name} has {each.name} from {node.module}"
                    for each in node.names
                    if each.name in given - own and not name.endswith("testing")
                ]
    assert wrong == []


def _may_have_effects(name):
    return any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in EFFECTFUL)


def test_effects_live_in_named_rooms():
    """Whatever touches files, clocks, dice, networks or processes is named above; all else can be replayed."""
    wrong = [
        f"{name} imports {', '.join(sorted(found))}"
        for name in ROOMS
        if (found := imported(name) & EFFECTS) and not _may_have_effects(name)
    ]
    assert wrong == []


def test_no_room_reads_a_clock_through_the_calendar():
    """`datetime.now` and its kin are clocks too."""
    calls = re.compile(r"\b(?:datetime|date)\.(?:now|utcnow|today)\(|\bPath\.(?:cwd|home)\(")
    wrong = [
        name for name, path in ROOMS.items() if not _may_have_effects(name) and calls.search(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_every_room_says_what_it_is():
    """Each room opens with a docstring; a face with at least a line."""
    assert [
        name for name, tree in TREES.items() if not ast.get_docstring(tree) and ROOMS[name].read_text(encoding="utf-8").strip()
    ] == []
    brief = [name for name, tree in TREES.items() if not is_face(name) and len((ast.get_docstring(tree) or "").splitlines()) < 3]
    assert brief == []


def test_rooms_are_small():
    """No room has more lines than one can hold in mind."""
    wrong = {
        name: lines for name, path in ROOMS.items() if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert wrong == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_gives_what_it_says_in_order(package):
    """`__all__` is sorted, and is just what the face imports."""
    tree = TREES[f"{package}.__init__"]
    faces = ("__future__", "typing", "types")
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module not in (*faces, "importlib")]
    names = [each.asname or each.name for node in imports for each in node.names]
    given = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    said = given[0] if given else []
    assert said == sorted(said)
    assert sorted(names) == said


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_gives_each_name_as_its_room_made_it(package):
    """Every name that a face promises is there, made in a room of its own folder; any other is an AttributeError."""
    face = importlib.import_module(package)
    assert [name for name in face.__all__ if not getattr(face, name).__module__.startswith(f"{package}.")] == []
    with pytest.raises(AttributeError):
        face.nothing_of_that_name  # noqa: B018 - asking is the point


def test_host_keys_are_always_checked():
    """Nowhere is a connection made that trusts whoever answers."""
    off = re.compile(r"known_hosts\s*=\s*None|StrictHostKeyChecking[= ]no|AutoAddPolicy")
    assert [name for name, path in ROOMS.items() if off.search(path.read_text(encoding="utf-8"))] == []


def test_nothing_is_left_to_do_and_nothing_tells_where_it_was_made():
    """No TODO, and no path of the machine on which a file was written."""
    signs = re.compile(r"\b(?:TODO|FIXME|XXX)\b|(?<![\w.])/(?:work|root|home)/")
    files = [path for path in [*ROOMS.values(), *(ROOT / "tests").rglob("*.py")] if path != Path(__file__)]
    assert [str(path.relative_to(ROOT)) for path in files if signs.search(path.read_text(encoding="utf-8"))] == []


def test_the_top_level_is_fixed():
    """The owner's layout, and hidden files, and nothing else."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no work tree of git: what belongs to the project cannot be told from what lies about")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {each.split("/")[0] for each in listed}
    assert {each for each in top if not each.startswith(".")} <= TOP


def test_tests_are_foldered_by_kind_of_proof():
    """Each test stands in the folder of its kind, and says in a sentence what it proves."""
    kinds = {"unit", "properties", "transcripts", "simulation", "e2e", "interop", "bench"}
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        inner = path.relative_to(ROOT / "tests").parts
        if len(inner) > 1 and inner[0] not in kinds:
            wrong.append(f"{path.name} stands in {inner[0]}")
        wrong += [
            f"{path.name}: {node.name} does not say what it proves"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
        ]
    assert wrong == []


@pytest.mark.parametrize("room", ["ledger.store", "replay.history", "projections.cluster"])
def test_a_read_path_loads_no_network(room):
    """Whoever only reads loads neither SSH, DNS, cryptography nor the maker of schemas, also to open a ledger."""
    opening = "try:\n    Ledger.open('none')\nexcept ValueError:\n    print(*sorted(sys.modules))"
    said = f"import sys, {room}\nfrom ledger.store import Ledger\n{opening}"
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {each.split(".")[0] for each in done.stdout.split()}
    assert "msgspec" in loaded
    assert loaded & {"asyncssh", "dns", "cryptography", "sqlite_utils", "asyncio", "click", "hypothesis", "duckdb"} == set()
