"""The benchmarks, by what they ask: throughput, latency, growth, bulk, change, the bus."""
