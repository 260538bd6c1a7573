"""From what was recorded to what models take: tokens, statistics, masks, features of time.

The estimators are in ``sequencer`` (TripletSequencer) and ``summarizer`` (EventSummarizer).
Behind the first are ``learning`` and ``encoding`` of the ``vocabulary``, with ``codebook`` (the
user's rules), ``values`` (scaling), ``categories``, ``times`` and ``report``; behind the second
``features`` and ``segments``. ``statics`` is about the columns beside the events.

``missing`` (MissingMaskEncoder) and ``embedder`` (TimeEmbedder) work on tables, panels and long
frames, which ``forms`` and ``steps`` bring into one form and ``encoded`` takes back; ``scales``,
``levels``, ``observed``, ``clocks`` and ``waves`` are their arithmetic. ``event_times`` is what the
latter does to event histories.
"""
