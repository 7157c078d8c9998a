"""What a table compares."""

from __future__ import annotations

from wand.attention import AttentionWindow
from wand.evaluation.systems import compared_systems


def names(*arguments, **options):
    return {system.name: system.window.size for system in compared_systems(*arguments, **options)}


def test_the_rows_of_a_closing_table():
    assert names(AttentionWindow(8), True) == {"teacher": None, "untrained": 8, "student": 8}


def test_other_windows_are_sorted_and_the_students_own_is_not_repeated():
    rows = names(AttentionWindow(32), True, (128, 32, 16, 16), student_full=True)
    assert list(rows) == ["teacher", "untrained", "untrained-16", "untrained-128", "student", "student-full"]
    assert rows == {
        "teacher": None,
        "untrained": 32,
        "untrained-16": 16,
        "untrained-128": 128,
        "student": 32,
        "student-full": None,
    }


def test_without_a_teacher_or_a_window_nothing_is_shown_twice():
    assert names(AttentionWindow(8), False, (16,)) == {"student": 8}
    assert names(AttentionWindow(), False, student_full=True) == {"student": None}
    assert names(AttentionWindow(), True, (16,)) == {"teacher": None, "untrained-16": 16, "student": None}


def test_weights_are_the_teachers_or_the_students():
    rows = compared_systems(AttentionWindow(8), True, (16,), student_full=True)
    assert [row.weights for row in rows] == ["teacher"] * 3 + ["student"] * 2
