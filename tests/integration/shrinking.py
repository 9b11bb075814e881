"""`kilobatch …` on a machine that has two devices at first and one from then on."""

from launch import cli, local
from launch.local import Devices
from pipeline.pretrain_config import PretrainConfig

counted: list[int] = []


def devices(config: PretrainConfig) -> Devices:
    """What stands in for the count alone."""
    counted.append(1 if counted else 2)
    return Devices([str(number) for number in range(counted[-1])], "CPU")


if __name__ == "__main__":
    local.devices = devices
    cli.main()
