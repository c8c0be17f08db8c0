"""Charts: described once (`base`), drawn for pages (`html`) and for papers (`svg`, `pdf`)."""
