from ensemble.report.documents.run import Report
from ensemble.report.pages.heat_map import heat_map


def test_the_heat_map_puts_label_clusters_together(report: Report) -> None:
    assert report.subclassifiers is not None
    drawn = heat_map(report, report.subclassifiers)
    assert drawn is not None
    assert drawn.labels[:5] == ("zero", "three", "six", "nine", "one")
    assert [(block.start, block.size) for block in drawn.blocks] == [(0, 4), (4, 3), (7, 3)]
    assert len(drawn.cells) == 90
    by_place = {(cell.y, cell.x): cell.title for cell in drawn.cells}
    assert report.subclassifiers.similarity is not None
    assert by_place[0, 1] == f"zero, three: {report.subclassifiers.similarity[0][3]:.2f}"
