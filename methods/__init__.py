"""One file per method (or close family), and what several methods share.

The settings of a method are explained in its ``conf/method/<name>.yaml``.
"""
