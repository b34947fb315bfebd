// Package house holds tests of the source tree itself: that every package says what
// it is for, that functions, interfaces and packages stay small, that library code
// gets its contexts from its callers, and that what comments cite exists.
//
// The bars are those of CONTRIBUTING.md. A change that misses one either gets
// smaller or changes the bar here, with a reason.
package house
