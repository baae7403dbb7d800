"""Run benchmarks: all of them, or those named on the command line (`bench_asof`, ...)."""

import importlib
import sys
from pathlib import Path

for name in sys.argv[1:] or sorted(p.stem for p in Path(__file__).parent.glob("bench_*.py")):
    module = importlib.import_module(f"mlops_assets_tests.benchmarks.{name}")
    print(f"\n== {name}: {(module.__doc__ or '').splitlines()[0]}\n", flush=True)
    module.main()
