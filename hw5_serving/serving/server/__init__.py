"""Given: an HTTP server with the interface of OpenAI's, around the engine.

protocol: what requests may hold. engine_loop: the engine's thread. text: tokens to text, stop strings.
answers: a request's way from prompt to reply. app: the routes. admin, rollouts: adapters, weights,
canaries. metrics: Prometheus. tiny: a model without a download. lifecycle: start, drain, stop.
"""
