"""What a substation is asked for, sheds and serves: demand + transfer = served + shed, always."""

from __future__ import annotations

import numpy as np

from domains.power.records import SubstationAttributes, SubstationCommand
from twin_actors.core.columns import Column


def rated_mw(attributes: SubstationAttributes) -> Column:
    """Active power at rated current and voltage, MW."""
    return np.asarray(attributes.rated_mva * attributes.power_factor)


def ordered_shed_mw(attributes: SubstationAttributes, command: SubstationCommand) -> Column:
    """Nominal load of the disconnected blocks, MW ``(…, n)``, whatever is asked for just now."""
    return np.asarray((attributes.block_mw * command.block_shed).sum(axis=0))


def asked_mw(demand_mw: Column, transfer_mw: Column, command: SubstationCommand) -> Column:
    """What customers here and load moved here ask for, MW; more cannot be moved away than there is."""
    return np.maximum(demand_mw + transfer_mw + command.tie_mw, 0.0)


def shed_mw(asked: Column, attributes: SubstationAttributes, command: SubstationCommand) -> Column:
    """Load that is not served, MW: that of the disconnected blocks, at most all that is asked for."""
    return np.minimum(ordered_shed_mw(attributes, command), asked)


def served_mw(
    demand_mw: Column, transfer_mw: Column, attributes: SubstationAttributes, command: SubstationCommand
) -> Column:
    """What flows through the transformer, MW."""
    asked = asked_mw(demand_mw, transfer_mw, command)
    return np.asarray(asked - shed_mw(asked, attributes, command))


def load_factor(load_mw: Column, attributes: SubstationAttributes) -> Column:
    """K of IEC 60076-7: load over rated power, the voltage being held near rated by the tap changer."""
    return np.asarray(load_mw / rated_mw(attributes))
