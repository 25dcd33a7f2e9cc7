"""A run is a stream of events that always ends with exactly one terminal one."""

import threading
from dataclasses import replace

import pytest

from anvil_engine import checks, fio, histogram, session
from anvil_engine.errors import RingUnavailable
from anvil_engine.plan import expand
from anvil_engine.results import TERMINAL, PhaseComplete, PhaseSample, RunStarted
from anvil_engine.target import create_file_target, open_target
from anvil_engine.workload import Phase, Profile, Workload

MIB = 1 << 20
READ = Workload(rw="read", bs=4096, runtime=0.2)


@pytest.fixture
def target_path(tmp_path):
    create_file_target(tmp_path / "target", 4 * MIB)
    return tmp_path / "target"


def a_profile(*phases, runtime=0.3):
    return Profile(
        "p",
        "P",
        "a profile of tests",
        tuple(
            Phase(f"{index}_{rw}", Workload(rw=rw, bs=4096, iodepth=4, runtime=runtime))
            for index, rw in enumerate(phases)
        ),
    )


def events_of(profile, path, *, engine="sync", stop=None):
    with open_target(path, write=profile.destructive) as target:
        plan = expand(profile, target_size=target.facts.size_bytes, lba_size=target.facts.lba_size)
        return list(session.run(plan, target, engine=engine, randseed=5, stop=stop))


def names(events):
    return [event.event for event in events]


@pytest.mark.parametrize("engine", [pytest.param("native", marks=pytest.mark.uring), "sync"])
def test_a_run_tells_everything_in_order(target_path, engine):
    """Each phase starts, is sampled and completes; the run ends with run_complete."""
    events = events_of(a_profile("read", "randrw"), target_path, engine=engine)
    phase = ["phase_started", "phase_sample", "phase_complete"]
    assert names(events) == ["run_started", *phase, *phase, "run_complete"]


def test_samples_hold_what_the_result_holds(target_path):
    """The samples' histograms add up to the phase's, and intervals count from 0."""
    events = events_of(a_profile("read", runtime=1.8), target_path)
    samples = [event for event in events if isinstance(event, PhaseSample)]
    assert [sample.interval for sample in samples] == list(range(len(samples)))
    (complete,) = (event for event in events if isinstance(event, PhaseComplete))
    merged = histogram.merge(histogram.unpack(sample.read.histogram) for sample in samples)
    assert (merged == histogram.unpack(complete.result.read.histogram)).all()


def test_a_run_says_what_it_ran_on(target_path):
    """The first event names the target, the engine, the host and the exact phases."""
    started = events_of(a_profile("read"), target_path)[0]
    assert isinstance(started, RunStarted)
    assert started.device_path == str(target_path)
    assert (started.engine, started.simulation) == ("sync", False)
    assert started.host["kernel"]
    assert started.host["engine_version"]
    assert started.phases[0].workload.size == 4 * MIB


def test_a_stopped_run_is_aborted_and_keeps_what_it_had(target_path):
    """A stop ends the stream with run_aborted and the phase's partial result."""
    stop = threading.Event()
    threading.Timer(0.4, stop.set).start()
    events = events_of(a_profile("read", "read", runtime=60), target_path, stop=stop)
    assert names(events)[-1] == "run_aborted"
    assert events[-1].reason == "aborted by user"
    assert events[-1].partial.read.ios > 0
    assert "phase_complete" not in names(events)


def test_an_io_error_fails_the_run(target_path):
    """A target that shrinks fails the phase, then the run; nothing is complete after that."""
    profile = a_profile("read", "read", runtime=60)
    with open_target(target_path, write=False) as target:
        plan = expand(profile, target_size=4 * MIB, lba_size=target.facts.lba_size)
        with target_path.open("r+b") as file:
            file.truncate(4096)
        events = list(session.run(plan, target, engine="sync"))
    assert names(events)[-2:] == ["phase_failed", "run_failed"]
    assert "phase_complete" not in names(events)
    assert "shorter than it was" in events[-1].error
    assert sum(isinstance(event, TERMINAL) for event in events) == 1


def test_a_forbidden_ring_fails_the_run_with_the_way_out(target_path, monkeypatch):
    """Where io_uring is refused, the run fails with a sentence that offers --engine sync."""

    def refuse(engine, workload, fd):
        raise RingUnavailable("io_uring cannot be used here: x; --engine sync measures without")

    monkeypatch.setattr(checks, "require_available", refuse)
    events = events_of(a_profile("read"), target_path, engine="native")
    assert names(events)[-1] == "run_failed"
    assert "--engine sync" in events[-1].error


def test_what_the_last_phase_lacks_stops_the_first():
    """A phase that cannot run here fails the run before anything was measured."""
    phases = [Phase("a", READ), Phase("b", replace(READ, cpus_allowed="8191"))]
    plan = expand(
        Profile("p", "P", "d", tuple(phases)), target_size=session.SIMULATED_SIZE, lba_size=512
    )
    events = list(session.run(plan, None))
    assert names(events) == ["run_started", "run_failed"]
    assert "phase b: cpus_allowed=8191: this process may not use CPU 8191" in events[1].error


def test_a_simulation_is_labelled_and_opens_nothing():
    """Without a target the null engine runs, and the first event says that it is simulated."""
    profile = a_profile("randwrite")
    plan = expand(profile, target_size=session.SIMULATED_SIZE, lba_size=512)
    events = list(session.run(plan, None, engine="native"))
    assert (events[0].engine, events[0].simulation) == ("null", True)
    assert events[0].device_path == "simulation"
    assert names(events)[-1] == "run_complete"


def test_a_phase_tells_fio_the_same(target_path):
    """phase_started carries the fio job that asks for the same I/O."""
    started = events_of(a_profile("randrw"), target_path)[1]
    lines = started.jobfile.splitlines()
    assert lines[0] == "[0_randrw]"
    assert {"rw=randrw", "bs=4k", "iodepth=4", "rwmixread=50", f"filename={target_path}"} <= {
        *lines
    }


def test_what_dev_zero_cannot_do_is_refused_before_it_starts():
    """Reads of more than a page may come back short through io_uring, so they are refused."""
    profile = Profile(
        "p", "P", "d", (Phase("large", Workload(rw="read", bs=8192, runtime=0.1, direct=False)),)
    )
    for engine, end in (("native", "run_failed"), ("sync", "run_complete")):
        with open_target("/dev/zero", write=False, direct=False) as target:
            plan = expand(profile, target_size=1 << 30, lba_size=512)
            assert names(list(session.run(plan, target, engine=engine)))[-1] == end


@pytest.mark.parametrize(
    ("rw", "rates"), [("read", "1000"), ("randwrite", ",1000"), ("randrw", "700,300")]
)
def test_fio_is_told_the_rate_of_each_direction(rw, rates):
    """fio's rate_iops is a direction's own, ours is the job's: a mix is divided."""
    workload = Workload(rw=rw, bs=4096, rwmixread=70, rate_iops=1000, rate_process="poisson")
    lines = fio.job_text(Phase("p", workload), "/dev/null").splitlines()
    assert {f"rate_iops={rates}", "rate_process=poisson"} <= {*lines}
