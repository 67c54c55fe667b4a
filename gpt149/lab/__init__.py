"""`gpt149 lab`: Stanford's CS149 assignment 4, judged part by part.

Here is what the assignment alone knows: its parts, points, cases and output. Judging is `check`'s.
"""
