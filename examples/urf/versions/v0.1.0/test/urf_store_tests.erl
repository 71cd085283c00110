-module(urf_store_tests).
-include_lib("eunit/include/eunit.hrl").

counts_test() ->
    {ok, Pid} = urf_store:start_link(),
    ?assertEqual(0, urf_store:get()),
    ?assertEqual(1, urf_store:incr()),
    ?assertEqual(2, urf_store:incr()),
    ?assertEqual(2, urf_store:get()),
    gen_server:stop(Pid).
