"""From event histories to what models take: tokens, or a plain table of statistics.

The estimators are in ``sequencer`` (TripletSequencer) and ``summarizer`` (EventSummarizer).
Behind the first are ``learning`` and ``encoding`` of the ``vocabulary``, with ``codebook`` (the
user's rules), ``values`` (scaling), ``categories``, ``times`` and ``report``; behind the second
``features`` and ``segments``. ``statics`` is about the columns beside the events.
"""
