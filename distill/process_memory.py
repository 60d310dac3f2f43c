"""How much memory this process has and had at most, as Linux tells it."""

from pathlib import Path


def process_bytes(key: str, file: str = "/proc/self/status") -> int:
    """A line of what Linux tells; 0 elsewhere.

    Args:
        key: "VmRSS", what the process has, or "VmHWM", the most it had.
        file: Another one of such lines.
    """
    path = Path(file)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def forget_peak() -> bool:
    """Sets the most that the process had to what it has; False where the system does not let it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True
