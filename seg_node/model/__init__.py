"""What a user says about a network, checked: cards, class tables, tensors."""
