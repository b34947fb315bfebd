// Package order sorts lists of any type by one copy of the code that sorts. The compiler
// makes a copy of slices.SortStableFunc for each type, of 12 KB.
package order

import "sort"

// By sorts the list in place, by compare(a, b): negative where a comes first, 0 where neither
// does. Equal elements keep their order, as those of sort.Stable do.
func By[T any](list []T, compare func(a, b T) int) {
	if len(list) > 1 { // most lists of a plan have no more, and need no memory then
		sort.Stable(by[T]{list, compare})
	}
}

type by[T any] struct {
	list    []T
	compare func(a, b T) int
}

func (s by[T]) Len() int           { return len(s.list) }
func (s by[T]) Less(i, j int) bool { return s.compare(s.list[i], s.list[j]) < 0 }
func (s by[T]) Swap(i, j int)      { s.list[i], s.list[j] = s.list[j], s.list[i] }
