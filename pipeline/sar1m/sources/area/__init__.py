"""An area of the Earth served by services of scenes: the plan, what it costs, and the pixels of one block."""
