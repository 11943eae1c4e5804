"""packaging_config: every model of a run, ranked, in one archive that stands on its own."""

from __future__ import annotations

import json
import zipfile


def packaged(project, **config):
    project.config["engine"]["packaging_config"] = {"type": "Zipfile", "name": "models", "config": config}
    project.config["passes"]["first"]["evaluator"] = "e"
    return project


def archive(project):
    return zipfile.ZipFile(project.folder / "hfopt-output" / "models.zip")


def test_all_models_are_ranked_and_each_can_be_loaded_as_its_readme_says(project):
    done = packaged(project).run()

    assert done.returncode == 0, done.stderr
    assert f"note: packaged: {project.folder / 'hfopt-output' / 'models.zip'}" in done.stderr
    ranks = json.loads(archive(project).read("models_rank.json"))
    assert [entry["rank"] for entry in ranks] == [1, 2]
    values = [entry["metrics"]["accuracy-accuracy"]["value"] for entry in ranks]
    assert values == sorted(values, reverse=True)
    candidates = project.record["results"][0]["candidates"]
    assert {entry["model_id"] for entry in ranks} == {candidate["id"] for candidate in candidates}
    for entry in ranks:
        names = [name for name in archive(project).namelist() if name.startswith(entry["model_path"] + "/")]
        assert {name.rpartition("/")[2] for name in names} == {"line.json", "model.json", "README.md", "metrics.json"}
        assert b"slope = json.load" in archive(project).read(f"{entry['model_path']}/README.md")
    assert json.loads(archive(project).read("run.json"))["status"] == "succeeded"


def test_a_model_that_misses_its_goals_ranks_behind_one_that_meets_them(project):
    packaged(project)
    goal = {"type": "threshold", "value": 0}
    first = {"metrics": [{"name": "size", "type": "size", "sub_types": [{"name": "bytes", "goal": goal}]}]}
    project.config["passes"]["first"]["evaluator"] = first

    assert project.run().returncode == 1

    ranks = json.loads(archive(project).read("models_rank.json"))
    assert [entry["goals_met"] for entry in ranks] == [None, False]


def test_what_is_not_wanted_or_not_available_is_left_out_or_refused(project):
    assert packaged(project, include_sample_code=False).run().returncode == 0
    assert not [name for name in archive(project).namelist() if name.endswith("README.md")]

    refused = packaged(project, include_runtime_packages=True).run()

    assert refused.returncode == 2
    assert "engine.packaging_config.config.include_runtime_packages: packages are not downloaded" in refused.stderr


def test_a_misspelt_packager_is_a_mistake(project):
    packaged(project).config["engine"]["packaging_config"]["type"] = "Zipfiel"

    done = project.run()

    assert done.returncode == 2
    assert "engine.packaging_config.type: no packager named 'Zipfiel'; installed: " in done.stderr
    assert "did you mean 'Zipfile'?" in done.stderr
