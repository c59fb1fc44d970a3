"""The wire: MQTT topics, codecs, the client and the embedded broker (the only room that imports paho)."""
