%% relup.escript < New. Out. Path. Up. Down.
%% Writes Out/relup, to the release New from the releases Up and back to the releases Down (.rel files without
%% their extension), with the ebin directories Path. Terms on standard input, since a command line has a length.
main([]) ->
    ok = io:setopts([{encoding, unicode}]),
    {ok, New} = io:read(standard_io, ''),
    {ok, Out} = io:read(standard_io, ''),
    {ok, Path} = io:read(standard_io, ''),
    {ok, Up} = io:read(standard_io, ''),
    {ok, Down} = io:read(standard_io, ''),
    Options = [silent, {path, Path}, {outdir, Out}],
    case systools:make_relup(New, Up, Down, Options) of
        {ok, _Relup, Module, Warnings} ->
            io:put_chars(Module:format_warning(Warnings));
        {error, Module, Error} ->
            io:put_chars(Module:format_error(Error)),
            halt(1)
    end.
