package awssim

import "time"

// replica is what authentication and authorisation see: the state as it was one propagation time
// ago. Every change is queued with the time it takes effect; IAM is eventually consistent in just
// this way (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_general.html#troubleshoot_general_eventual-consistency).
type replica struct {
	State   *State
	Pending []pending
}

type pending struct {
	At  time.Time `json:"at"`
	Put Put       `json:"put"`
}

// inReplica: sessions and secrets are not part of it; a session works as soon as it is issued.
func inReplica(kind string) bool {
	return kind == "user" || kind == "key" || kind == "role" || kind == "group"
}

func (r *replica) queue(at time.Time, p Put) {
	if inReplica(p.Kind) {
		r.Pending = append(r.Pending, pending{at, p})
	}
}

// catchUp applies what has taken effect by now. Changes of one object keep their order even where
// the propagation time was shortened in between.
func (r *replica) catchUp(now time.Time) error {
	for len(r.Pending) > 0 && !r.Pending[0].At.After(now) {
		if err := r.State.apply(r.Pending[0].Put); err != nil {
			return err
		}
		r.Pending = r.Pending[1:]
	}
	return nil
}
