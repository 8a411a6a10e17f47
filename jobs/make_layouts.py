"""Write small synthetic datasets in every published layout, to try loaders and inspection without a download or a licence.

    python jobs/make_layouts.py --out=DIR [--layouts='["mupots", "mpii"]'] [--images=12]

The lines it prints are the arguments with which jobs/inspect.py and jobs/ingest.py read each.
"""

from __future__ import annotations

from engine.config import run_job
from engine.synthetic.layouts.catalogue import LayoutsConfig, write_layouts

if __name__ == "__main__":
    run_job(LayoutsConfig, lambda config: write_layouts(config, say=lambda line: print(line, flush=True)))
