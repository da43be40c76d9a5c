"""The device over HTTP: routes, their JSON, and who may call them."""
