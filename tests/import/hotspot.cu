// One step of a simulation of heat.
