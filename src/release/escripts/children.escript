%% children.escript < Paths. Modules.
%% Runs Module:init([]) of each supervisor with the ebin directories Paths, and writes {Module, unknown | [ChildId]}.
%% This virtual machine is thrown away afterwards: init/1 may do what it likes to it.
-mode(compile).

main([]) ->
    ok = io:setopts([{encoding, unicode}]),
    {ok, Paths} = io:read(standard_io, ''),
    {ok, Modules} = io:read(standard_io, ''),
    code:add_pathsa(lists:reverse(Paths)),
    lists:foreach(fun(M) -> io:format("~0p.~n", [{M, children(M)}]) end, Modules).

children(Module) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({children, ids(Module:init([]))}) end),
    receive {'DOWN', Ref, process, Pid, {children, Ids}} -> Ids;
            {'DOWN', Ref, process, Pid, _} -> unknown
    after 10000 -> exit(Pid, kill), unknown
    end.

ids({ok, {_, Specs}}) when is_list(Specs) -> [id(S) || S <- Specs];
ids(_) -> unknown.

id(#{id := Id}) -> Id;
id(Spec) when is_tuple(Spec) -> element(1, Spec).
