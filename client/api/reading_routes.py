"""Routes of the model: read a text, say which model reads, go back to the one before, and how the device fares."""

from __future__ import annotations

from fastapi import APIRouter, Response

from client.api import edge, metrics
from client.api.device import Device, ThisDevice
from client.api.problems import Problem
from model.refusal import Refusal

routes = APIRouter(tags=["model"])
open_routes = APIRouter(tags=["model"])
"""For whoever asks, without the token."""


@routes.post("/v1/predict", summary="Read a text; nothing is kept")
async def predict(wanted: edge.JustText, device: ThisDevice) -> edge.Prediction:
    """Four probabilities, and which model gave them; where the text speaks of self-harm, a word of care in their place."""
    if care := edge.Care.of(wanted.text):
        return edge.Prediction.caring(care)
    try:
        read = await device.reader.read_soon(wanted.text)
    except Refusal as refusal:
        raise Problem.of(refusal, "not-ready") from None
    device.metrics.reads_with(read.version)
    return edge.Prediction.of(read)


@routes.get("/v1/model", summary="Which model reads")
def model(device: ThisDevice) -> edge.Model:
    """The newest global model that reached this device and passed its checks, and those before it."""
    return _model(device)


@routes.post("/v1/model/rollback", summary="Go back to the model before")
def roll_back(device: ThisDevice) -> edge.Model:
    """The last good one reads again, until a newer one than the one left arrives."""
    try:
        device.reader.roll_back()
    except Refusal as refusal:
        raise Problem.of(refusal, "conflict") from None
    return _model(device)


@open_routes.get("/v1/health", summary="Whether the API answers; open to everybody")
def health(device: ThisDevice) -> edge.Health:
    """Needs no token and says nothing of the person's."""
    serving = device.reader.serving
    return edge.Health(status="ok" if serving else "no-model", model=serving.version if serving else None)


@routes.get(
    "/metrics", summary="Counts and latencies for Prometheus", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
def measured(device: ThisDevice) -> Response:
    """No text, and no label made from what was sent."""
    if serving := device.reader.serving:  # which may have changed since anybody asked for a reading
        device.metrics.reads_with(serving.version)
    return Response(device.metrics.text(), media_type=metrics.MEDIA_TYPE)


def _model(device: Device) -> edge.Model:
    serving, refused = device.reader.serving, device.reader.refused
    if serving is None:
        raise Problem("not-ready", "no model can read here", next="run `healing client init`, which installs version 1")
    failed = edge.Refused(version=refused.version, reason=refused.reason) if refused else None
    history = [edge.Serving.of(one) for one in device.reader.history]
    return edge.Model(**edge.Serving.of(serving).model_dump(), refused=failed, history=history)
