"""SUMO as an outside city: its signals report and obey over MQTT. Needs the extra ``sumo``; see docs/sumo.md."""
