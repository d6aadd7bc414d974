"""The order of samples: pure functions of the specification, the epoch and the step."""
