%% state.escript < [{"OLD.beam", "NEW.beam"}, ...].
%% For each pair one term {Module, unknown | {StateChanged, CodeChangeChanged, StartChanged}} on standard output:
%% StateChanged: the records that init/1 builds have other fields, or, without records, init/1 itself changed.
%% StartChanged: init/1 or any function of the module that it reaches changed.
%% Line numbers and formatting never count. Encrypted debug info is read with `.erlang.crypt`.
-mode(compile).

main([]) ->
    ok = io:setopts([{encoding, unicode}]),
    {ok, Pairs} = io:read(standard_io, ''),
    %% Elixir itself turns its debug info into Erlang's
    [code:add_pathz(Dir) || {_, New} <- lists:sublist(Pairs, 1), Dir <- filelib:wildcard(filename:join(filename:dirname(New), "../../elixir-*/ebin"))],
    lists:foreach(fun({Old, New}) -> compare(Old, New) end, Pairs).

compare(Old, New) ->
    Module = list_to_atom(filename:basename(New, ".beam")),
    Answer = case {forms(Old), forms(New)} of
        {{ok, O}, {ok, N}} ->
            {state(O) =/= state(N),
             reached(O, [{code_change, 3}, {code_change, 4}]) =/= reached(N, [{code_change, 3}, {code_change, 4}]),
             reached(O, [{init, 1}]) =/= reached(N, [{init, 1}])};
        _ -> unknown
    end,
    io:format("~0p.~n", [{Module, Answer}]).

forms(File) ->
    case beam_lib:chunks(File, [abstract_code]) of
        {ok, {_, [{abstract_code, {raw_abstract_v1, Forms}}]}} ->
            {ok, [erl_parse:map_anno(fun(_) -> 0 end, F) || F <- Forms, element(1, F) =/= eof]};
        _ -> unknown
    end.

state(Forms) ->
    Used = lists:usort(records(reached(Forms, [{init, 1}]))),
    Fields = [{Name, fields(Name, Forms)} || Name <- Used],
    case Used of
        [] -> reached(Forms, [{init, 1}]);
        _ -> Fields
    end.

records({record, _, Name, Fields}) when is_atom(Name) -> [Name | records(Fields)];
records({record, _, Of, Name, Fields}) when is_atom(Name) -> [Name | records(Of) ++ records(Fields)];
records(T) when is_tuple(T) -> records(tuple_to_list(T));
records([H | T]) -> records(H) ++ records(T);
records(_) -> [].

fields(Name, Forms) ->
    [field(F) || {attribute, _, record, {N, Fields}} <- Forms, N =:= Name, F <- Fields].
field({typed_record_field, F, _Type}) -> field(F);
field({record_field, _, {atom, _, Name}}) -> Name;
field({record_field, _, {atom, _, Name}, _Default}) -> Name.

%% The functions From and all local ones that they call, sorted.
reached(Forms, From) ->
    Functions = maps:from_list([{{N, A}, F} || F = {function, _, N, A, _} <- Forms]),
    lists:sort(maps:values(reach(From, Functions, #{}))).

reach([], _, Seen) -> Seen;
reach([Key | Rest], Functions, Seen) ->
    case {Functions, Seen} of
        {_, #{Key := _}} -> reach(Rest, Functions, Seen);
        {#{Key := F}, _} -> reach(calls(F) ++ Rest, Functions, Seen#{Key => F});
        _ -> reach(Rest, Functions, Seen)
    end.

calls({call, _, {atom, _, Name}, Args}) -> [{Name, length(Args)} | calls(Args)];
calls({'fun', _, {function, Name, Arity}}) -> [{Name, Arity}];
calls(T) when is_tuple(T) -> calls(tuple_to_list(T));
calls([H | T]) -> calls(H) ++ calls(T);
calls(_) -> [].
