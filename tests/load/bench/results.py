"""What was measured: tables of text and figures, kept as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of one scenario. A figure is a number; `None` is never one: what was not measured has no row."""

    key: str
    title: str
    method: str
    columns: list[tuple[str, str]]
    rows: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, subject: str, **figures: float) -> None:
        missing = [key for key, _ in self.columns if key not in figures]
        if missing:
            raise ValueError(f"{self.key}, {subject}: not measured: {missing}")
        self.rows.append({"subject": subject, **figures})
        print(f"  {subject}: " + ", ".join(f"{key} {number(figures[key])}" for key, _ in self.columns), flush=True)

    def json(self) -> dict:
        return {"key": self.key, "title": self.title, "rows": self.rows}

    def markdown(self) -> str:
        head = ["", *(label for _, label in self.columns)]
        lines = [f"## {self.title}", "", self.method, "", "| " + " | ".join(head) + " |",
                 "| --- |" + " ---: |" * len(self.columns)]
        for row in self.rows:
            cells = [row["subject"], *(number(row[key]) for key, _ in self.columns)]
            lines.append("| " + " | ".join(cells) + " |")
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def number(value: float | str) -> str:
    """Three figures are what such a machine can vouch for."""
    if isinstance(value, str):
        return value
    if value == 0 or float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
