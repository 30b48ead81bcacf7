"""What happens to data and models after training: drift, reports, delayed-label performance, metrics, alerts.

Belongs here: judging what was scored against what the model was trained on, and telling people about it. Does not
belong here: scoring, training, and the schedules that start all this.
"""
