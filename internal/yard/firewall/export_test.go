package firewall

// Settle waits for what is fetched before a job asks for it.
func (f *Firewall) Settle() { f.early.Wait() }
