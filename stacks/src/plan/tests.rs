//! Plans of the whole chat without any cloud: what is new, what changed, what it drags along, and what is refused.
