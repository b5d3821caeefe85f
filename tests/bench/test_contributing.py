"""What contributors rely on: tools of one version everywhere, checks that are the same, one version of the suite."""

from __future__ import annotations

import configparser
import re

import yaml

from tests.conftest import REPOSITORY


def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read_string(text("setup.cfg"))
    return parsed


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED = {
    normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text("constraints.txt"), re.MULTILINE)
}


def test_all_that_is_installed_to_test_and_lint_is_pinned() -> None:
    options, extras = setup()["options"], setup()["options.extras_require"]
    wanted = "\n".join((options["install_requires"], extras["test"], extras["lint"])).split()
    names = [normal(re.match(r"[\w.-]+", word)[0]) for word in wanted if word[0].isalpha()]
    assert len(names) > 30 and [name for name in names if name not in PINNED] == []


def test_commits_are_checked_by_the_versions_that_ci_has() -> None:
    """They are those of the environment that `make` has made; nothing is fetched."""
    repos = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert {repo["repo"] for repo in repos} == {"local"}
    assert {hook["language"] for repo in repos for hook in repo["hooks"]} == {"system"}


def test_every_check_of_a_commit_is_one_of_make_lint() -> None:
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)[1]
    hooks = [hook["id"] for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    commands = {
        **{"ruff-check": "ruff check .", "ruff-format": "ruff format --check .", "codespell": "codespell_lib"},
        **{"mypy": "-m mypy", "lint-imports": "lint-imports"},
    }
    assert hooks and [hook for hook in hooks if commands[hook] not in lint] == []


def test_the_suite_has_one_version() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == setup()["metadata"]["version"]
    assert citation["license"] == setup()["metadata"]["license"]
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["title"] and citation["message"]


def test_the_changelog_begins_with_what_is_not_yet_released() -> None:
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert set(re.findall(r"^### (.*)$", text("CHANGELOG.md"), re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"),
    }
