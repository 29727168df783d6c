from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.placement import CONTEXT_MB, USABLE, Device, Work, whole_devices
from cluster.scheduling.training import training_hosts, with_members
from cluster.scheduling.training_costs import TrainingCost, TrainingCosts
from ensemble.images.index import ImageIndex
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask

GPU = Device("L4", memory_mb=22_000, cpus=6)
GPUS = st.lists(
    st.builds(Device, st.just("L4"), st.floats(8_000, 80_000), st.floats(1, 16)),
    min_size=1,
    max_size=8,
)


def _task(name: str = "a", num_images: int = 100, **changes: object) -> TrainTask:
    index = ImageIndex(
        "made up",
        np.array([f"{name}{number}" for number in range(num_images)]),
        np.arange(num_images) % 2,
        ("x", "y"),
    )
    task = TrainTask(name, "alexnet_small", RecipeConfig(), 0, index, (0, 1), Path("cache"))
    return replace(task, **changes)


def _cost(memory_mb: float, images: int = 100) -> TrainingCost:
    return TrainingCost(memory_mb=memory_mb, device_memory_mb=22_000, images=images, classes=2)


@given(GPUS, st.floats(1, 100_000), st.integers(1, 100))
def test_trainings_share_a_gpu_by_memory_and_no_gpu_is_shared_out_beyond_itself(
    devices: list[Device], memory_mb: float, num_trainings: int
) -> None:
    hosts = training_hosts(devices, memory_mb, num_trainings)
    assert len(hosts) <= max(num_trainings, len(devices)) + len(devices)
    for index, device in enumerate(devices):
        here = [host for host in hosts if host.device == index]
        assert here
        assert sum(host.gpu_share for host in here) <= 1 + 1e-9
        assert sum(host.memory_fraction for host in here) <= USABLE + 1e-9
        assert sum(host.cpu_share for host in here) <= device.cpus + 1e-3
        needs = memory_mb + CONTEXT_MB
        if len(here) > 1:
            assert len(here) * needs <= device.memory_mb * USABLE + 1e-6
            # Torch may take what was measured, to within Ray's smallest share.
            assert all(h.memory_fraction * device.memory_mb >= memory_mb - 10 for h in here)
        most = -(-num_trainings // len(devices))
        if len(here) < min(most, int(device.cpus * 2)):
            assert (len(here) + 1) * needs > device.memory_mb * USABLE


def test_eight_small_fine_tunes_on_two_gpus_are_trained_at_a_time() -> None:
    assert len(training_hosts([GPU] * 2, 2_000, 8)) == 8
    # A large one takes a GPU of its own, as does any that was not measured.
    assert training_hosts([GPU] * 2, 15_000, 8) == whole_devices([GPU] * 2)
    assert training_hosts([GPU] * 2, None, 8) == whole_devices([GPU] * 2)
    # Where there is a GPU for each, none is shared.
    assert training_hosts([GPU] * 8, 2_000, 8) == whole_devices([GPU] * 8)


def test_processes_on_cpus_are_not_shared() -> None:
    assert training_hosts([Device()] * 2, 100, 8) == whole_devices([Device()] * 2)


def test_workers_of_trainings_carry_the_members_that_fit_into_their_part() -> None:
    hosts = training_hosts([GPU] * 2, 2_000, 8)
    part_mb = hosts[0].memory_fraction * GPU.memory_mb
    small = [Work(f"m{i}", {"L4": 10.0 - i}, 1_000, 20, 500) for i in range(5)]
    works = [*small, Work("large", {"L4": 1.0}, part_mb)]
    carrying = with_members(hosts, works, [GPU] * 2)
    assert [host.shape for host in carrying] == [host.shape for host in hosts]
    assert {name for host in carrying for name in host.members} == {work.name for work in small}
    for host in carrying:
        carried = [work for work in small if work.name in host.members]
        weights_mb = sum(work.memory_mb - work.batch_mb for work in carried)
        assert weights_mb + max((w.batch_mb for w in carried), default=0) <= part_mb


def test_workers_on_cpus_carry_every_member() -> None:
    devices = [Device()] * 2
    works = [Work(f"m{i}", {"cpu": 3.0}, 1e9, 20) for i in range(5)]
    hosts = with_members(whole_devices(devices), works, devices)
    assert {name for host in hosts for name in host.members} == {work.name for work in works}


def test_a_training_counts_as_measured_where_one_of_its_kind_was_as_large(tmp_path: Path) -> None:
    costs = TrainingCosts(tmp_path)
    assert costs.memory_mb([_task()], ["L4"]) is None
    costs.keep(_task(), "L4", _cost(1_500))
    longer = _task("b", 80, seed=7, recipe=RecipeConfig(epochs=90))
    assert costs.memory_mb([_task(), longer], ["L4", "A100"]) == 1_500
    assert costs.memory_mb([_task(), _task("c", 101)], ["L4"]) is None
    assert costs.memory_mb([_task(recipe=RecipeConfig(batch_size=64))], ["L4"]) is None
    costs.keep(_task("c", 101), "L4", _cost(1_400, 101))
    # What is kept covers both, also for a later run.
    assert TrainingCosts(tmp_path).memory_mb([_task(), _task("c", 101)], ["L4"]) == 1_500


def test_one_training_of_each_kind_is_measured_first(tmp_path: Path) -> None:
    costs = TrainingCosts(tmp_path)
    other = RecipeConfig(batch_size=64)
    tasks = [_task("a"), _task("b"), _task("c"), _task("d", recipe=other)]
    first = costs.first_to_measure(tasks, ["L4"], 2)
    assert [task.name for task in first] == ["a", "d"]
    for task in first:
        costs.keep(task, "L4", _cost(1_000))
    assert costs.memory_mb(tasks, ["L4"]) == 1_000


def test_memory_of_a_gpu_that_the_config_does_not_state_is_the_measured_one(tmp_path: Path) -> None:
    costs = TrainingCosts(tmp_path)
    costs.keep(_task(), "L4", _cost(1_000))
    devices = costs.with_memory([Device("L4", cpus=6), Device("A100", 40_000)], [_task()])
    assert [device.memory_mb for device in devices] == [22_000, 40_000]
    assert training_hosts([Device("L4", cpus=6)], 1_000, 9) == whole_devices([Device("L4", cpus=6)])


def test_a_cost_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    TrainingCosts(tmp_path).keep(_task(), "L4", _cost(1_000))
    next(tmp_path.iterdir()).write_text("{")
    assert TrainingCosts(tmp_path).memory_mb([_task()], ["L4"]) is None
