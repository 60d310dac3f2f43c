#!/usr/bin/env bash
# Installs a wheel with all that it needs into a new environment, and uses it in an empty folder: doctor, teacher of the demo.
#   tests/packaging/try_wheel.sh dist/distill_rs-VERSION-py3-none-PLATFORM.whl [ENVIRONMENT]
# An ENVIRONMENT that exists is used as it is.
set -euo pipefail
wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
environment=${2:-$folder/environment}
if [ ! -d "$environment" ]; then
  "${PYTHON:-python3}" -m venv "$environment"
  time "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
fi
du -sh "$environment"
bin=$(realpath "$environment")/bin
mkdir "$folder/empty"
cd "$folder/empty"
"$bin/distill" --help > /dev/null
"$bin/python" -c 'import distill, heads, recipes, students, teachers; print(distill.__version__, distill.__file__)'
"$bin/distill" doctor
"$bin/distill" doctor --json | "$bin/python" -c '
import json, sys
problems = [row for row in json.load(sys.stdin) if row["state"].startswith("problem")]
sys.exit(f"problems: {problems}" if problems else 0)'
# Both trainings of the demo's first stages, with few scenes and steps: data, kernels, training, validation, files.
"$bin/python" -c '
from distill.synthetic.scenes import write_scenes
for split in ("teacher", "validation", "test", "unlabelled"):
    write_scenes("runs/demo/data", split, 24, 128, 0, labelled=split != "unlabelled")'
few=(--trainer.max_steps 4 --trainer.val_check_interval 4 --data.num_workers 0 --data.sizes null)
time "$bin/distill" fit demo/teacher "${few[@]}" --run.dir runs/demo/teacher
time "$bin/distill" fit demo/distill "${few[@]}" --run.dir runs/demo/distill
test -f runs/demo/distill/student.safetensors
