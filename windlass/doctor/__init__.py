"""What is wrong with this machine, this environment, this home, and the command that puts it right.

A check is a function that returns findings; `examination` runs them all. Checks look at files and processes
directly and import nothing heavy: a doctor that needs a healthy patient is none.
"""
