package images

import (
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/warm"
)

// warm returns the cache of guests that were booted for others.
func (c command) warm() warm.Cache { return warm.Cache{Images: c.Places.Images, User: c.User} }

// prunedAll is what prune removed.
type prunedAll struct {
	images.Pruned
	Booted []warm.State `json:"booted,omitempty"`
}

// removeBooted removes the booted guest of that name; known is false if there is none.
func (c command) removeBooted(name string, inUse images.InUse) (known bool, err error) {
	list, err := c.warm().List()
	for _, s := range list {
		if s.Name != name {
			continue
		}
		if err := c.warm().Remove(s, inUse); err != nil {
			return true, err
		}
		c.Talk("removed %s, %s", s.Name, fetch.Bytes(s.Bytes()))
		return true, nil
	}
	return err != nil, err
}

// removeOn removes the booted guests that rest on an image which is about to go. An image on
// which VMs rest stays, and so do they.
func (c command) removeOn(image images.Cached, inUse images.InUse) error {
	list, err := c.warm().List()
	if err != nil || len(inUse(image.Digest)) > 0 {
		return err
	}
	for _, s := range list {
		if s.ImageDigest != image.Digest {
			continue
		}
		if _, err := c.removeBooted(s.Name, inUse); err != nil {
			return err
		}
	}
	return nil
}
