//! import native  //! portable: //! import portable
// The arithmetic of a kernel: native.wgsl leaves it to the adapter, portable.wgsl (--precision portable) fixes every bit. Both
// have the same functions. In a kernel that serves both, one statement is one operation:
//
//   keep(a + b)      a sum                             settle(a * b)   a product
//   rounded(x)       an operand of long products       keep(a * b), where a * b is then added to a value far from zero
