"""A page about a release, or the report of training runs, releases and results.

python jobs/report.py RELEASE [OTHER] --out=FOLDER [--shard_set=URL]     a site to look at a release with, or at two side by side
python jobs/report.py --config report.yaml                               training curves, results and overlays -> index.html

RELEASE is ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG; `jobs/report.py RELEASE --help` shows the options of its site, `--help` alone those of
the report. Either works with `ray job submit --working-dir . -- ...`.
"""

import sys

from engine.config import run_job


def main(argv: list[str]) -> None:
    if argv and not argv[0].startswith("-"):
        from engine.report.site.build import build_site
        from engine.report.site.config import SiteConfig

        run_job(SiteConfig, build_site, argv)
    else:
        from engine.report.build import ReportConfig, build_report

        if argv in (["--help"], ["-h"]):
            print(__doc__)
        run_job(ReportConfig, build_report, argv)


if __name__ == "__main__":
    main(sys.argv[1:])
