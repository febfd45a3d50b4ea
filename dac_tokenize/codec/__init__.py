"""The codec rooms: geometry, windows, rows, encoder, quantizer, decoder and checkpoint."""
