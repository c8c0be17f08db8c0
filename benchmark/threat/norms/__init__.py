"""The norms, one a file; see `benchmark.threat.geometry.Geometry`.

To add one, add a file here (or an entry point of the group ``curveboard.norms``) that holds a constant ``NORM``. Files
are importable without torch: what needs it imports it inside its functions.
"""
