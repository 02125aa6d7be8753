import pytest

from uniemo.cli.devices import check_devices, check_strategy, on_cpu
from uniemo.errors import UniEmoError
from uniemo.launch import cpu_cores


@pytest.mark.parametrize("devices", [3, "3", 64])
def test_more_processes_than_cores_are_refused(devices):
    with pytest.raises(UniEmoError, match=r"set --trainer\.devices 2 or less") as found:
        check_devices(devices, cpu=True, cores=2)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("devices", ["x", "", 0, -1, "0,1", [0, 1], 1.5])
def test_what_is_no_number_of_processes(devices):
    with pytest.raises(UniEmoError, match="must be a number of processes from 1, or auto"):
        check_devices(devices, cpu=True, cores=2)


@pytest.mark.parametrize("devices", [1, 2, "2", "auto"])
def test_what_fits(devices):
    check_devices(devices, cpu=True, cores=2)


def test_accelerators_are_lightnings_business():
    check_devices(8, cpu=False, cores=2)
    assert on_cpu("cpu")
    assert not on_cpu("cuda")
    assert cpu_cores() >= 1


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "deepspeed_stage_3", "lightning.FSDPStrategy"])
def test_strategies_that_cut_up_what_is_trained_are_refused(strategy):
    with pytest.raises(UniEmoError, match=r"got .*: take ddp, or --config strategy/fsdp\.yaml"):
        check_strategy(strategy, "joint", draws=True)


def test_strategies_that_fit():
    ours = "uniemo.modules.strategies.FrozenFSDPStrategy"
    for strategy in ("auto", "ddp", "ddp_fork", "ddp_find_unused_parameters_true", "single_device", ours):
        check_strategy(strategy, "joint", draws=True)
    with pytest.raises(UniEmoError, match="has no UNet to share out"):
        check_strategy(ours, "understanding", draws=False)
