from django.apps import AppConfig


class RebalancingConfig(AppConfig):
    name = "controlplane.rebalancing"
    label = "rebalancing"
