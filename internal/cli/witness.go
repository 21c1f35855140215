package cli

import (
	"fmt"

	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type witnessCmd struct {
	Up  witnessUpCmd  `cmd:"" help:"Serve as a witness."`
	Key witnessKeyCmd `cmd:"" help:"Print the key by which others check this witness; made at first with --name."`
}

type witnessDir struct {
	Data string `help:"Directory of the witness: its key and what it has cosigned; made when missing." default:"witness" env:"SALLYPORT_WITNESS_DATA" placeholder:"DIR"`
	Name string `help:"Name in the key, as witness.example.com; fixed when the key is made." placeholder:"NAME"`
}

type witnessUpCmd struct {
	witnessDir
	Logs    string `required:"" help:"File that lists the logs to follow, a line each: log VKEY." placeholder:"FILE"`
	Listen  string `help:"Address to listen on." default:"127.0.0.1:7358" placeholder:"HOST:PORT"`
	TLSCert string `help:"PEM certificate; optional, for all that is sent is signed and public." placeholder:"FILE"`
	TLSKey  string `help:"PEM key of the certificate." placeholder:"FILE"`
}

func (c witnessUpCmd) Run(e *env) error {
	config := daemon.WitnessConfig{Data: c.Data, Name: c.Name, Logs: c.Logs, Listen: c.Listen, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Log: newLogger(e, "text", false)}
	return daemon.Witness(e.ctx, config, func(url, vkey string) {
		fmt.Fprintf(e.stdout, "The witness serves. Line for the policies of those who follow it:\nwitness NAME %s %s\n", vkey, url)
	})
}

type witnessKeyCmd struct{ witnessDir }

func (c witnessKeyCmd) Run(e *env) error {
	vkey, err := daemon.WitnessKey(c.Data, c.Name)
	if err == nil {
		fmt.Fprintln(e.stdout, vkey)
	}
	return err
}
