@rem package.json says "exec node ...": sh then makes its process node's own, so that signals to npm reach node.
@rem Windows' cmd, which looks for commands in this folder first, has no exec: this one runs what follows.
@%*
