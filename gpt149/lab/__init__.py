"""`gpt149 lab`: Stanford's CS149 assignment 4, judged part by part."""
