"""What the scenarios share: raw HTTP on the wire, origins, and a Sentinel process of their own."""
