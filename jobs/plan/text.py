"""A plan in words: one line before a run, tables for `ensemble plan`."""

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.scheduling.placement import USABLE, Plan
from jobs.plan.document import PlanDocument


def plan_line(plan: Plan, has_costs: bool = True) -> str:
    """Describe a plan in one line: members, hosts, devices and seconds."""
    if not plan.waves:
        return "plan: no prediction is missing, so none is computed"
    hosts = len(plan.hosts(0))
    members = len({share.member for wave in plan.waves for share in wave})
    parts = [f"plan: {members} members in {hosts} hosts on {describe_devices(plan)}"]
    if len(plan.waves) > 1:
        parts.append(f"{len(plan.waves)} waves, each of which decodes the images again")
    if plan.replicas:
        parts.append("replicas " + ", ".join(f"{n} x{c}" for n, c in plan.replicas.items()))
    if not has_costs:
        parts.append("costs are measured on each member's first block")
    else:
        parts.append(f"{describe_seconds(plan.seconds)} of forward passes")
        if plan.gpu_hours:
            parts.append(f"{plan.gpu_hours:.3g} GPU-hours")
    return ", ".join(parts)


def describe_devices(plan: Plan) -> str:
    """Count the devices of a plan by kind."""
    counts = Counter(device.kind for device in plan.devices)
    return " and ".join(
        f"{count} CPU{'s' if count > 1 else ''}"
        if kind == "cpu"
        else f"{count} {'GPU' if kind == 'gpu' else kind}{'s' if count > 1 else ''}"
        for kind, count in counts.items()
    )


def describe_seconds(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def show(document: PlanDocument, console: Console) -> None:
    """Print a plan as tables."""
    for number, wave in enumerate(document.waves, start=1):
        title = f"Wave {number} of {len(document.waves)}" if len(document.waves) > 1 else "Plan"
        table = Table(title=title, title_justify="left")
        columns = ("device", "host", "member", "part", "GPU share", "CPUs", "memory", "seconds")
        for column in columns:
            table.add_column(column, justify="left" if column in columns[:3] else "right")
        for host_number, host in enumerate(wave.hosts):
            for placed in host.members:
                table.add_row(
                    host.device,
                    str(host_number),
                    placed.name,
                    f"{placed.fraction:.0%}",
                    f"{host.gpu_share:g}" if host.gpu_share else "",
                    f"{host.cpus:g}",
                    f"{placed.memory_mb:,.0f} MB" if placed.memory_mb else "",
                    f"{placed.seconds:.3g}" if document.has_costs else "",
                )
        console.print(table)
    for line in document.lines:
        console.print(Text(line), soft_wrap=True)


def memory_line(plan: Plan) -> str:
    """Tell how full the fullest GPU is; empty on CPUs, or where the GPUs' memory is unknown."""
    used = [
        plan.memory_mb(wave, index) / device.memory_mb
        for wave in plan.waves
        for index, device in enumerate(plan.devices)
        if device.is_gpu and device.memory_mb < float("inf")
    ]
    if not used:
        return ""
    return f"the fullest GPU holds {max(used):.0%} of its memory, of {USABLE:.0%} that may be used"
