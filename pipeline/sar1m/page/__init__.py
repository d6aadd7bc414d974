"""The page that shows what a build contains and why."""
