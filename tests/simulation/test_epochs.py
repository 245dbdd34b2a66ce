"""A machine that begins a new epoch: after its disk was set back more than once, and when its ledger key is changed."""

from simulation.test_cores import Watched, not_of_the_record

from ledger.events import FeedOpened, KeyChanged
from ledger.identity import Feed
from ledger.node import confirming
from ledger.node.state import SECOND
from ledger.node.virtual_craft import word_of
from ledger.node.wire import Shown
from ledger.node.words import Named
from ledger.testing import simulate
from replay import states
from replay.history import History
from replay.living import remembered


def watched_run(seed, seconds=300):
    """A mesh of three, and what each machine's beliefs said on the way, by machine."""
    said: dict[str, list[Watched]] = {}

    def views(own, disk):
        belief = Watched(own, remembered(own, disk)._refold)
        said.setdefault(own.machine, []).append(belief)
        return belief

    return simulate(seed, views=views, machines=3, seconds=seconds, faults=[]), said


def openings(node):
    """The first entries of a machine's own feeds, by epoch, as it holds them."""
    feeds = sorted(feed for feed in node.disk if feed.machine == node.name)
    return [node.disk[feed][0].event for feed in feeds]


def agree(said, folder):
    """How many positions were compared, at which what a machine believed is what replay rebuilds."""
    compared = 0
    for name, beliefs in said.items():
        with History.open(folder / f"{name}.ledger") as history:
            held = {feed.name: history.last(feed) for feed in history.feeds}
            for position, table in beliefs[-1].said.items():
                assert states.at(history.belief(name, position), name) == table, (position, held)
                compared += 1
    return compared


def test_a_disk_set_back_twice_forks_nothing(tmp_path):
    """Alpha's disk is set back, which begins epoch 2, and later to the same image again: then it has lost all of epoch 2, whose
    number it must not use again, and the end of epoch 1, whose places it must not write again. It begins epoch 3, and says so.
    """
    run, said = watched_run(7)
    world, (alpha, *_others) = run.world, run.nodes.values()
    image = len(list(alpha.written()))
    for _ in range(2):
        world.run(world.now_ns + 300 * SECOND)
        alpha.crash()
        alpha.roll_back(len(list(alpha.written())) - image)
        world.run(world.now_ns + 5 * SECOND)
        alpha.start()
        world.run(world.now_ns + 300 * SECOND)
    world.run(world.now_ns + 600 * SECOND)
    first, second, third = openings(alpha)
    assert (first.why, second.why, third.why) == ("new", "restored", "restored")
    assert second.lost_from > 1
    lost = next(len(log) for feed, log in alpha.disk.items() if feed.name == "alpha.2")
    assert (third.lost_from, third.lost_until) == (1, lost)
    assert run.coverage["epoch restored"] == 2
    assert run.unsettled() == []
    run.save(str(tmp_path))
    assert not_of_the_record(tmp_path) == []
    assert agree(said, tmp_path) > 5


def test_a_ledger_key_is_changed(tmp_path):
    """Bravo changes its ledger key while charlie is cut off, and is started anew: the old feed ends with the change, the new one
    bears the new key, charlie learns of both when it is back, and commands that bravo signs are obeyed as before.
    """
    run, said = watched_run(12)
    world, (_alpha, bravo, charlie) = run.world, run.nodes.values()
    world.cuts |= {(a, b) for a, b in (("bravo", "charlie"), ("charlie", "bravo"), ("alpha", "charlie"), ("charlie", "alpha"))}
    world.run(world.now_ns + 200 * SECOND)
    old = bravo.feed
    run.command(bravo, "rekey", "bravo", role="ledger", new="ledger-key-of-bravo-2")
    world.run(world.now_ns + 200 * SECOND)
    assert isinstance(bravo.disk[old][-1].event, KeyChanged)
    assert (bravo.feed.name, bravo.feed.ledger_key) == ("bravo.2", "ledger-key-of-bravo-2")
    assert [opened.why for opened in openings(bravo)] == ["new", "new-key"]
    bravo.crash()
    bravo.start()
    world.cuts.clear()
    world.heal()
    world.run(world.now_ns + 600 * SECOND)
    assert run.unsettled() == []
    assert charlie.disk[old] == bravo.disk[old]
    for node in run.nodes.values():
        assert node.mesh.core.member("bravo").ledger_key == "ledger-key-of-bravo-2"
    run.command(bravo, "sethostname", "charlie", hostname="renamed.lab.example", force=True)
    world.run(world.now_ns + 100 * SECOND)
    assert bravo.mesh.core.member("charlie").hostname == "renamed.lab.example"
    run.save(str(tmp_path))
    assert not_of_the_record(tmp_path) == []
    assert isinstance(bravo.disk[bravo.feed][0].event, FeedOpened)
    assert agree(said, tmp_path) > 5


def test_a_founder_acts_from_the_first_entry_of_its_next_epoch_on(tmp_path):
    """Alpha, which founded the cluster, changes its ledger key twice in one moment: the second change stands right after the
    first entry of epoch 2, and counts all the same.
    """
    run, _said = watched_run(13)
    world, (alpha, *_others) = run.world, run.nodes.values()
    for number in (2, 3):
        run.command(alpha, "rekey", "alpha", role="ledger", new=f"ledger-key-of-alpha-{number}")
    world.run(world.now_ns + 300 * SECOND)
    second = next(log for feed, log in alpha.disk.items() if feed.name == "alpha.2")
    assert [entry.event.kind for entry in second][:2] == ["feed.opened", "key.changed"]
    assert alpha.feed.name == "alpha.3"
    assert run.unsettled() == []
    for node in run.nodes.values():
        assert [feed.name for feed in node.mesh.core.member("alpha").feeds] == ["alpha", "alpha.2", "alpha.3"]
    run.save(str(tmp_path))
    assert not_of_the_record(tmp_path) == []


def test_nobody_else_can_say_that_a_machine_has_a_newer_epoch():
    """A member shows alpha the word of a later epoch of alpha's, signed by the key that it names itself: alpha goes on as it was.
    Signed by alpha's own key it is the word of somebody who holds what alpha has lost.
    """
    run, _said = watched_run(14)
    alpha = run.nodes["alpha"]
    core, before = alpha.mesh.core, alpha.feed
    for key, begun in (("ledger-key-of-mallory", []), (before.ledger_key, ["restored"])):
        feed = Feed.of(before.incarnation, "alpha", 7, key)
        confirming.shown(core, [Shown(Named.of(feed), word_of(feed, 9))])
        assert [action.why for action in core.take_actions()] == begun
